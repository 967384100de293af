import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";

/** How connections to an app are encrypted, and how we show who calls. */
export interface ConnectionSecurity {
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials;
  /** Client interceptors that add what says who calls. @default none */
  readonly interceptors?: readonly Interceptor[];
  /** Name that the workers' certificates have to be for. @default the target's host */
  readonly serverName?: string;
}
