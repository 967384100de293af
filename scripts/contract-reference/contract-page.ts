import {
  type AnyDesc,
  type DescEnum,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescService,
  ScalarType,
} from "@bufbuild/protobuf";
import { getComments } from "@bufbuild/protoplugin";
import { messageRulesInWords, rulesInWords } from "./rules-in-words.js";

/**
 * The contract as a page of Markdown: for each package its services, messages and enums with their comments, and the rules of protovalidate
 * in words.
 *
 * @param files in the order in which the page tells of them.
 * @throws Error where two things would share a heading, which links could not tell apart.
 */
export function contractPage(files: readonly DescFile[]): string {
  const packages = new Set(files.map((file) => file.proto.package));
  const parts = [...packages].flatMap((name) =>
    packageSection(
      name,
      files.filter((file) => file.proto.package === name),
    ),
  );
  const headings = parts.filter((part) => part.startsWith("#")).map((part) => part.replace(/^#+ /, ""));
  const twice = headings.find((heading, index) => headings.indexOf(heading) !== index);
  if (twice !== undefined) {
    throw new Error(`two headings are ${twice}`);
  }
  return `${parts.join("\n\n")}\n`;
}

function packageSection(name: string, files: readonly DescFile[]): string[] {
  return [
    `## ${name}`,
    ...files.flatMap((file) => file.services).flatMap(serviceSection),
    ...files.flatMap((file) => file.messages).flatMap(messageSection),
    ...files.flatMap((file) => file.enums).flatMap(enumSection),
  ];
}

function serviceSection(service: DescService): string[] {
  return [
    `### ${service.name}`,
    ...paragraphsOf(service),
    ...service.methods.flatMap((method) => [
      `#### ${service.name}.${method.name}`,
      `[${method.input.name}](${anchorOf(method.input)}) → ${isStream(method.methodKind) ? "stream of " : ""}[${method.output.name}](${anchorOf(method.output)})`,
      ...paragraphsOf(method),
    ]),
  ];
}

const isStream = (kind: string) => kind === "server_streaming" || kind === "bidi_streaming";

function messageSection(message: DescMessage): string[] {
  const rows = message.fields.map((field) => {
    const rules = rulesInWords(field).join("; ");
    return [`\`${field.name}\``, String(field.number), typeOf(field), rules, paragraphsOf(field).join("<br>")];
  });
  return [
    `### ${message.name}`,
    ...paragraphsOf(message),
    ...messageRulesInWords(message).map((words) => `Rule: ${words}.`),
    rows.length === 0 ? "It has no fields." : table(["field", "number", "type", "rules", "meaning"], rows),
    ...message.nestedMessages.filter(({ proto }) => proto.options?.mapEntry !== true).flatMap(messageSection),
    ...message.nestedEnums.flatMap(enumSection),
  ];
}

function enumSection(desc: DescEnum): string[] {
  const rows = desc.values.map((value) => [
    `\`${value.name}\``,
    String(value.number),
    paragraphsOf(value).join("<br>"),
  ]);
  return [`### ${desc.name}`, ...paragraphsOf(desc), table(["value", "number", "meaning"], rows)];
}

function typeOf(field: DescField): string {
  const { oneof } = field;
  if (oneof !== undefined) {
    return `${elementOf(field)}, one of \`${oneof.name}\``;
  }
  switch (field.fieldKind) {
    case "list":
      return `list of ${elementOf(field)}`;
    case "map":
      return `map of ${scalarOf(field.mapKey)} to ${elementOf(field)}`;
    case "message":
      return elementOf(field);
    default:
      return `${field.proto.proto3Optional ? "optional " : ""}${elementOf(field)}`;
  }
}

function elementOf({ message, enum: enumeration, scalar }: DescField): string {
  const named = message ?? enumeration;
  if (named === undefined) {
    return scalarOf(scalar);
  }
  return named.file.proto.package.startsWith("throughline.")
    ? `[${named.name}](${anchorOf(named)})`
    : `\`${named.typeName}\``;
}

const scalarOf = (scalar: ScalarType | undefined) => (scalar === undefined ? "" : ScalarType[scalar].toLowerCase());

/** GitHub's anchor of a heading. */
const anchorOf = ({ name }: DescMessage | DescEnum) => `#${name.toLowerCase()}`;

/** A comment's paragraphs, each in one line. A list has one line for each item. */
function paragraphsOf(desc: Exclude<AnyDesc, DescFile>): string[] {
  const { leading = "" } = getComments(desc);
  return leading
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => {
      const items = paragraph.split(/\n\s*(?=- )/);
      return items.map((item) => item.replace(/\s+/g, " ").trim()).join("\n");
    })
    .filter((paragraph) => paragraph !== "");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escapeCell).join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

const escapeCell = (cell: string) => cell.replaceAll("|", "\\|").replaceAll("\n", "<br>");
