import { parityCases, testParity } from "./parity-cases.js";

// Each scheduler, guidance scale, prompt and size at least once; `npm run test:parity` takes all.
testParity(parityCases.filter((_, index) => index % 9 === 0));
