/* npm run test:deploy: all that can be checked without Docker and without a cluster. */
import "./manifests.js";
import { describeTrees } from "./trees.js";

describeTrees();
