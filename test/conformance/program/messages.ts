/** The suite's messages. The code is generated when the suite is installed and is not checked in. */
export * from "../../../node_modules/.cache/throughline/conformance/gen/connectrpc/conformance/v1/client_compat_pb.js";
export * from "../../../node_modules/.cache/throughline/conformance/gen/connectrpc/conformance/v1/config_pb.js";
export * from "../../../node_modules/.cache/throughline/conformance/gen/connectrpc/conformance/v1/server_compat_pb.js";
export * from "../../../node_modules/.cache/throughline/conformance/gen/connectrpc/conformance/v1/service_pb.js";
