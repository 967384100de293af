import { create } from "@bufbuild/protobuf";
import { ListJobsResponseSchema } from "../gen/throughline/v1/job_pb.js";
import { checkList, type JobServiceImplementation, type JobServiceOptions, noSuchJob } from "./job-service.js";

/** Creates the calls of JobService about jobs that exist, for a pipeline that has none: it has no database yet, which takes seconds to create. */
export function createEmptyJobService(
  options: Pick<JobServiceOptions, "listsAnonymous">,
): Omit<JobServiceImplementation, "createJob"> {
  const reject = () => {
    throw noSuchJob();
  };
  return {
    getJob: reject,
    watchJob: reject,
    cancelJob: reject,
    deleteJob: reject,
    listJobs(request, call) {
      checkList(request, call, options);
      return create(ListJobsResponseSchema);
    },
  };
}
