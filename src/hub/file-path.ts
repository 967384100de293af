const longestPath = 1024;
const maxSegmentBytes = 255;

/**
 * Whether a text that came from outside names a file inside the folder that it is meant for: segments with a slash between them, none of
 * them empty, `.` or `..`, without backslashes and control characters, at most 1,024 characters.
 */
export function isInnerPath(path: string): boolean {
  return (
    path.length <= longestPath &&
    !/[\\\p{Cc}]/u.test(path) &&
    path
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== ".." && Buffer.byteLength(part) <= maxSegmentBytes)
  );
}
