import { conditioningCases, multistepCases, parityCases, testParity } from "./parity-cases.js";

// Each scheduler, guidance scale, prompt and size at least once; `npm test -- test/engine/parity-all.ts` takes all.
testParity([...parityCases.filter((_, index) => index % 9 === 0), ...multistepCases, ...conditioningCases]);
