// One mesh for all suites: to load PGlite and open a database costs seconds of CPU.
import { describeErrors } from "./fal/errors.js";
import { withFalMesh } from "./fal/fal-tests.js";
import { describeNeighbours } from "./fal/neighbours.js";
import { describeRequests } from "./fal/requests.js";
import { describeRuns } from "./fal/runs.js";
import { describeSubmissions } from "./fal/submissions.js";

withFalMesh((fal) => {
  describeRequests(fal);
  describeRuns(fal);
  describeErrors(fal);
  describeSubmissions(fal);
  describeNeighbours(fal);
});
