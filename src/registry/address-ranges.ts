import ipaddr from "ipaddr.js";

/** Ranges of IP addresses. */
export interface AddressRanges {
  /** As configured: `10.0.0.0/8`. */
  readonly labels: readonly string[];
  contains(host: string): boolean;
}

/**
 * Read ranges of IP addresses.
 *
 * @param texts CIDR, such as `10.0.0.0/8` or `fd00::/8`, or single addresses.
 * @throws Error that quotes the text that is none.
 */
export function readAddressRanges(texts: readonly string[]): AddressRanges {
  const ranges = texts.map((text) => {
    const [base = "", bits, ...rest] = text.split("/");
    const isIpv4 = ipaddr.IPv4.isValidFourPartDecimal(base);
    const mostBits = isIpv4 ? 32 : 128;
    const length = bits === undefined ? mostBits : Number(bits);
    // The library alone takes 10.0.0/8 for 10.0.0.0/8, and hexadecimal and octal parts.
    const isRange =
      (isIpv4 || ipaddr.IPv6.isValid(base)) && /^\d{1,3}$/.test(bits ?? "0") && length <= mostBits && rest.length === 0;
    if (!isRange) {
      throw new Error(`"${text}" is no range of IP addresses such as 10.0.0.0/8 or fd00::/8`);
    }
    return [ipaddr.parse(base), length] as const;
  });
  return {
    labels: texts,
    contains(host) {
      const address = ipaddr.process(host);
      return ranges.some(([range, bits]) => range.kind() === address.kind() && address.match(range, bits));
    },
  };
}

/** Ranges that may register unless the operator names others. */
export const loopbackRanges = readAddressRanges(["127.0.0.0/8", "::1"]);
