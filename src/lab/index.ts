/** The lab as a library, `faultline/lab`: faults, and runs that they are put into. */
export { catalogue } from "./catalogue.js";
export { runLab } from "./run.js";
