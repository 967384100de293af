import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { invalidField } from "../mesh/errors/errors.js";
import { isLoopbackName } from "../mesh/port/listen-exposure.js";

/** Where webhooks may be sent. */
export interface WebhookPolicy {
  /** Hosts, with a port unless it is 443. Empty: webhooks are off. */
  readonly hosts: readonly string[];
  /** Also by http and to this machine, for tests. @default false */
  readonly allowsLoopback?: boolean | undefined;
}

/** The address that a webhook's host had when it was checked, which the request then uses. */
export interface WebhookAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

/** A host must not get a webhook: it resolves to an address that is not public. */
export class WebhookAddressError extends Error {
  override readonly name = "WebhookAddressError";
}

/** @throws ConnectError INVALID_ARGUMENT that says what a URL has to be. */
export function checkWebhookUrl(text: string, { hosts, allowsLoopback = false }: WebhookPolicy): void {
  if (hosts.length === 0) {
    throw invalidField("webhook_url", "webhooks are off: the operator has to list their hosts with --webhook-hosts");
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLocal = url !== undefined && allowsLoopback && isLoopbackName(url.hostname);
  if (url === undefined || (url.protocol !== "https:" && !(isLocal && url.protocol === "http:"))) {
    throw invalidField("webhook_url", "an https:// URL");
  }
  if (url.username !== "" || url.password !== "") {
    throw invalidField("webhook_url", "a URL without credentials; webhooks are signed");
  }
  if (!hosts.includes(url.host)) {
    throw invalidField(
      "webhook_url",
      "a host that the operator lists with --webhook-hosts, with its port unless that is 443",
    );
  }
}

/**
 * The hosts of a policy that get no webhook whatever they resolve to: addresses that are not public, and names of this machine.
 */
export function unreachableHosts({ hosts, allowsLoopback = false }: WebhookPolicy): readonly string[] {
  return hosts.filter((host) => {
    const { hostname } = new URL(`https://${host}`);
    const name = addressOf(hostname);
    return isIP(name) ? !mayReach(name, allowsLoopback) : isLoopbackName(hostname) && !allowsLoopback;
  });
}

function addressOf(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

function mayReach(address: string, allowsLoopback: boolean): boolean {
  const range = ipaddr.process(address).range();
  return range === "unicast" || (allowsLoopback && range === "loopback");
}

/**
 * Resolves the host of a webhook, so that the request goes to the address that was checked and not to one that the name has a moment later.
 *
 * @throws WebhookAddressError if one of its addresses is not public: of this machine, of a private network, of the cloud's metadata.
 */
export async function resolveWebhook(url: URL, { allowsLoopback = false }: WebhookPolicy): Promise<WebhookAddress> {
  const host = addressOf(url.hostname);
  const found = isIP(host) ? [{ address: host }] : await lookup(host, { all: true });
  for (const { address } of found) {
    if (!mayReach(address, allowsLoopback)) {
      const range = ipaddr.process(address).range();
      throw new WebhookAddressError(`the webhook's host resolves to an address that is not public (${range})`);
    }
  }
  const [first] = found;
  if (first === undefined) {
    throw new WebhookAddressError("the webhook's host has no address");
  }
  return { address: first.address, family: isIP(first.address) === 6 ? 6 : 4 };
}
