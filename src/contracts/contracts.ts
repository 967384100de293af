/**
 * What `throughline/contracts` offers: the messages and services of the Protobuf package `throughline.v1`.
 *
 * @module contracts
 */
export {
  Delivery,
  DeliverySchema,
  file_throughline_v1_image,
  type GenerationOptions,
  GenerationOptionsSchema,
  type Image,
  ImageFormat,
  ImageFormatSchema,
  ImageSchema,
  type Progress,
  ProgressSchema,
  type Queued,
  QueuedSchema,
  Scheduler,
  SchedulerSchema,
  Stage,
  StageSchema,
  type Timings,
  TimingsSchema,
} from "../gen/throughline/v1/image_pb.js";
export {
  file_throughline_v1_pipeline,
  type GenerateRequest,
  GenerateRequestSchema,
  type GenerateResponse,
  GenerateResponseSchema,
  type GenerateStreamRequest,
  GenerateStreamRequestSchema,
  type GenerateStreamResponse,
  GenerateStreamResponseSchema,
  ImagePipelineService,
} from "../gen/throughline/v1/pipeline_pb.js";
export {
  file_throughline_v1_worker,
  type InferRequest,
  InferRequestSchema,
  type InferResponse,
  InferResponseSchema,
  type InferStreamRequest,
  InferStreamRequestSchema,
  type InferStreamResponse,
  InferStreamResponseSchema,
  TextToImageWorkerService,
} from "../gen/throughline/v1/worker_pb.js";
