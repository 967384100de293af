import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";

/** How connections to an app are encrypted, and how we show who calls. */
export interface ConnectionSecurity {
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials;
  /** Client interceptors that add what says who calls. @default none */
  readonly interceptors?: readonly Interceptor[];
}
