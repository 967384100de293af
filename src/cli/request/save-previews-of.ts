import { extname } from "node:path";
import type { Progress } from "../../gen/throughline/v1/image_pb.js";
import { extensionOf, formatOfContentType } from "../../image/encode-image.js";
import { beginsLike } from "./picture-signature.js";
import { writeFileWhole } from "./write-file-whole.js";

/**
 * Gives the writer of a picture's previews: `a-red-heart-step-5.png` beside `a-red-heart.png`. What is no picture of ours is not written.
 *
 * @param path file of the picture.
 */
export function savePreviewsOf(path: string): (progress: Progress) => void {
  const base = path.slice(0, path.length - extname(path).length);
  return ({ step, preview, previewContentType }) => {
    const format = formatOfContentType(previewContentType);
    if (format !== undefined && beginsLike(format, preview)) {
      writeFileWhole(`${base}-step-${step}.${extensionOf(format)}`, preview);
    }
  };
}
