import { createHostCheck, type HostCheck } from "../../mesh/access/host-check.js";
import type { protectionSettings } from "../settings/protection-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import type { hostSetting } from "../settings/shared-settings.js";

/** Settings by which a server knows under which names it may be asked for. */
export type HostCheckSettings = { readonly publicUrl?: string | undefined } & SettingsOf<
  typeof protectionSettings & { host: typeof hostSetting }
>;

/** By which names a server shows what it has, as its settings say. */
export function hostCheckOf({ host, publicUrl, callers, tlsClientCa, insecureOpen }: HostCheckSettings): HostCheck {
  return createHostCheck({
    host,
    publicUrl,
    anyHost: insecureOpen || callers !== undefined || tlsClientCa !== undefined,
  });
}
