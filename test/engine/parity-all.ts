import { parityCases, testParity } from "./parity-cases.js";

testParity(parityCases);
