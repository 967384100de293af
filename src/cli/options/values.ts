import { isIP } from "node:net";
import { type Device, parseDevice } from "../../engine/device.js";
import { appIdPattern } from "../../mesh/app-id.js";
import { type AddressRanges, readAddressRanges } from "../../registry/address-ranges.js";
import { requestLimits } from "../../request-limits.js";
import { Invalid, type Parse } from "./option.js";

const digits = /^\d{1,16}$/;
const decimal = /^\d{1,12}(?:\.\d{1,12})?$/;

/** A whole number of a range, both ends included, and a multiple of `multipleOf` where that is given. */
export function wholeNumber(minimum: number, maximum: number, multipleOf = 1): Parse<number> {
  const multiple = multipleOf === 1 ? "" : `, a multiple of ${multipleOf}`;
  return (text) => {
    const value = Number(text);
    const fits = digits.test(text) && value >= minimum && value <= maximum && value % multipleOf === 0;
    return fits ? value : new Invalid(`must be a whole number from ${minimum} to ${maximum}${multiple}`);
  };
}

/** A 32-bit unsigned seed. */
export const seed: Parse<number> = (text) => {
  const value = wholeNumber(0, 2 ** 32 - 1)(text);
  return value instanceof Invalid ? new Invalid(`${value.expected}; leave it out for a random one`) : value;
};

/** A decimal number of a range, both ends included. */
export function decimalNumber(minimum: number, maximum: number): Parse<number> {
  return (text) => {
    const value = Number(text);
    const fits = decimal.test(text) && value >= minimum && value <= maximum;
    return fits ? value : new Invalid(`must be a number from ${minimum} to ${maximum}`);
  };
}

/** A LoRA of a request. */
export interface LoraChoice {
  readonly name: string;
  /** Undefined: 1. */
  readonly scale: number | undefined;
}

/** LoRAs of a request, `name` or `name:scale`, separated by commas. */
export const loras: Parse<readonly LoraChoice[]> = (text) => {
  const { loraScale, maxLoras } = requestLimits;
  const choices = text.split(",").map((entry) => {
    const [, name = "", number] = /^(.*?)(?::([^:]*))?$/s.exec(entry) ?? [];
    return {
      name,
      scale:
        number === undefined ? undefined : /^-?\d{1,12}(?:\.\d{1,12})?$/.test(number) ? Number(number) : Number.NaN,
    };
  });
  const isWrong = ({ name, scale = 1 }: LoraChoice) =>
    name === "" || !(scale >= loraScale.min && scale <= loraScale.max);
  if (choices.some(isWrong)) {
    return new Invalid(
      `must be the name of a LoRA, or name:scale with a scale from ${loraScale.min} to ${loraScale.max}, such as pixel:0.8`,
    );
  }
  if (new Set(choices.map(({ name }) => name)).size < choices.length) {
    return new Invalid("must name each LoRA once");
  }
  return choices.length > maxLoras ? new Invalid(`must stand at most ${maxLoras} times`) : choices;
};

/** Part of an option's definition: one of the choices. */
export function oneOf<const Word extends string>(...choices: readonly Word[]) {
  const parse: Parse<Word> = (text) =>
    choices.find((word) => word === text) ?? new Invalid(`must be one of ${choices.join(", ")}`);
  return { choices, parse };
}

/** A TCP port; 0 takes a free one. */
export const port: Parse<number> = wholeNumber(0, 65_535);

export const nonEmpty: Parse<string> = (text) => (text === "" ? new Invalid("must not be empty") : text);

export const anyText: Parse<string> = (text) => text;

/** Host name or address to listen on, without a port. */
export const host: Parse<string> = (text) =>
  /^[A-Za-z0-9.-]+$|^[0-9A-Fa-f:.]+$/.test(text)
    ? text
    : new Invalid("must be a host name or an address without a port");

/** Host names or addresses, each with an optional port, separated by commas; returned as the hosts of https:// URLs are written. */
export const hosts: Parse<readonly string[]> = (text) => {
  const found = text.split(",").map((entry) => httpsHostOf(entry.trim()));
  return found.includes("")
    ? new Invalid(
        "must be host names or addresses without scheme, path, wildcard or empty entry, such as hooks.example.com or hooks.example.com:8443",
      )
    : [...new Set(found)];
};

/** Lower case, without the dot that may end a name, and without port 443; empty if the text is no host. */
function httpsHostOf(text: string): string {
  // A URL takes more than a host, such as `*` and a user's name.
  if (!/^(?:[\p{L}\p{M}\p{N}._-]+|\[[\da-f:.]+\])(?::\d+)?$/iu.test(text)) {
    return "";
  }
  const url = `https://${text.replace(/\.(?=:\d+$|$)/, "")}`;
  return URL.canParse(url) && !text.includes("..") ? new URL(url).host : "";
}

/** Base URLs of servers, separated by commas: scheme, host and port. */
export const pipelineUrls: Parse<readonly string[]> = (text) => {
  const urls = text.split(",").map((entry) => {
    const url = isHttpUrl(entry.trim()) ? new URL(entry.trim()) : undefined;
    const isBase = url !== undefined && `${url.pathname}${url.search}${url.hash}${url.username}${url.password}` === "/";
    return isBase && url.port !== "0" ? url.origin : "";
  });
  return urls.includes("")
    ? new Invalid(
        "must be http:// or https:// URLs without path and credentials, such as http://pipeline.internal:8080",
      )
    : [...new Set(urls)];
};

/** An IP address without a port. */
export const ipAddress: Parse<string> = (text) =>
  isIP(text) === 0 ? new Invalid("must be an IP address without a port, such as 10.0.0.7 or fd00::7") : text;

/** Ranges of IP addresses, separated by commas; undefined for `none`. */
export const addressRanges: Parse<AddressRanges | "none"> = (text) => {
  const texts = text.split(",").map((entry) => entry.trim());
  if (texts.length === 1 && texts[0] === "none") {
    return "none";
  }
  try {
    return readAddressRanges(texts);
  } catch {
    return new Invalid("must be none, or ranges of IP addresses such as 10.0.0.0/8 or fd00::/8");
  }
};

/** An app id such as `local/text-to-image-worker`. */
export const appId: Parse<string> = (text) =>
  appIdPattern.test(text) ? text : new Invalid("must be an app id of the form owner/name");

/** `postgres://…`, or a folder. Another scheme is a typing error, whose password would become the name of a folder. */
export const databaseOrFolder: Parse<string> = (text) => {
  const [, scheme] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text) ?? [];
  if (text === "" || (scheme !== undefined && !/^postgres(?:ql)?$/.test(scheme))) {
    return new Invalid("must be a folder, or a URL that begins with postgres:// or postgresql:// in small letters");
  }
  return text;
};

/** A bucket with an optional prefix. The name's own rules are the store's. */
export const s3Url: Parse<{ readonly bucket: string; readonly prefix: string }> = (text) => {
  const [, bucket, prefix = ""] = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9.-]{1,62})(?:\/([^?#\s]*))?$/.exec(text) ?? [];
  if (bucket === undefined) {
    return new Invalid("must be of the form s3://bucket or s3://bucket/prefix");
  }
  const folder = prefix.replace(/^\/+|\/+$/g, "");
  if (folder !== "" && folder.split("/").some((part) => ["", ".", ".."].includes(part))) {
    return new Invalid("must have a prefix without empty parts, . and ..");
  }
  return { bucket, prefix: folder === "" ? "" : `${folder}/` };
};

export const httpUrl: Parse<string> = (text) =>
  isHttpUrl(text) ? text : new Invalid("must be an http:// or https:// URL");

/** URL of a trace in a backend, with `{traceId}` in the place of the id. */
export const traceUrl: Parse<string> = (text) => {
  const filled = text.replaceAll("{traceId}", "0".repeat(32));
  return filled !== text && isHttpUrl(filled) && !new URL(filled).host.includes("0".repeat(32))
    ? text
    : new Invalid(
        "must be an http:// or https:// URL with {traceId} after its host, such as http://localhost:16686/trace/{traceId}",
      );
};

/** The device that a model runs on. */
export const device: Parse<Device> = (text) =>
  parseDevice(text) ??
  new Invalid(
    "must be auto, cpu, cuda, tensorrt, webgpu, coreml or dml, or the number of a device after cuda, tensorrt or dml, such as cuda:1",
  );

/** Origins of web pages, separated by commas; `*` for any. */
export const origins: Parse<readonly string[]> = (text) => {
  const list = text.split(",");
  return list.every((origin) => origin === "*" || isOrigin(origin.replace(/:\*$/, "")))
    ? list
    : new Invalid("must be * or origins such as http://localhost:5173 or http://localhost:*, without a path");
};

/**
 * App ids with their gRPC targets: `owner/name=host:port`, separated by commas. A target may contain commas itself
 * (`ipv4:10.0.0.1:50052,10.0.0.2:50052`): only a following `owner/name=` ends it.
 */
export const workerTargets: Parse<Readonly<Record<string, string>>> = (text) => {
  const targets = new Map<string, string>();
  for (const entry of text.split(/,(?=[^,=/]+\/[^,=/]+=)/)) {
    const index = entry.indexOf("=");
    const id = entry.slice(0, Math.max(0, index));
    const target = entry.slice(index + 1);
    if (!appIdPattern.test(id) || target === "" || /\s/.test(target) || targets.has(id)) {
      return new Invalid("must be of the form owner/name=host:port, each app once");
    }
    targets.set(id, target);
  }
  return Object.fromEntries(targets);
};

export function isHttpUrl(value: string): boolean {
  return URL.canParse(value) && ["http:", "https:"].includes(new URL(value).protocol);
}

function isOrigin(value: string): boolean {
  return isHttpUrl(value) && new URL(value).origin === value;
}
