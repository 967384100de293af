import { conditioningCases, multistepCases, parityCases, testParity } from "./parity-cases.js";

testParity([...parityCases, ...multistepCases, ...conditioningCases]);
