import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Compressions for requests and responses. */
export const acceptCompression = [compressionGzip, compressionBrotli];
