/**
 * `grpc.health.v1` and gRPC server reflection for any Connect router.
 *
 * @module connect-health
 */
export { createHealth, type Health, type HealthOptions, healthServiceName, ServingStatus } from "./health.js";
export { reflectionRoutes, reflectionServiceNames } from "./reflection.js";
