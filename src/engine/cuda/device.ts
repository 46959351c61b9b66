import type { AttentionLibrary } from "./attention-library.js";
import { Cuda } from "./cuda.js";
import { DriverLibrary } from "./driver-library.js";
import { Stream } from "./stream.js";

/** CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, _COMPUTE_CAPABILITY_MAJOR and _MINOR */
const multiprocessorCount = 16;
const capabilityMajor = 75;
const capabilityMinor = 76;
/** Compute capability that the kernels' PTX is made for, and that from which on kernels overlap. */
const oldest = 8;
const overlapping = 9;

/**
 * Opens the first GPU that CUDA's driver shows; CUDA_VISIBLE_DEVICES says which that is.
 * @param attention opens a library whose attention paths are to run.
 * @throws Error in one sentence when koffi, a driver or a device that the kernels run on is missing.
 */
export async function openCuda(
  driverPath?: string,
  attention?: (stream: Stream) => Promise<AttentionLibrary>,
): Promise<Cuda> {
  const driver = await DriverLibrary.load(driverPath);
  driver.call("cuInit", 0);
  if (driver.integer("cuDeviceGetCount") === 0) throw new Error("CUDA's driver shows no device");
  const device = driver.integer("cuDeviceGet", 0);
  const bytes = new Uint8Array(256);
  driver.call("cuDeviceGetName", bytes, bytes.length, device);
  const name = new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  const major = driver.integer("cuDeviceGetAttribute", capabilityMajor, device);
  const minor = driver.integer("cuDeviceGetAttribute", capabilityMinor, device);
  if (major < oldest) {
    throw new Error(`${name} has compute capability ${major}.${minor}, the CUDA kernels need ${oldest}.0 or later`);
  }
  const context = driver.handle("cuDevicePrimaryCtxRetain", device);
  driver.call("cuCtxSetCurrent", context);
  const stream = new Stream(driver, major >= overlapping);
  const multiprocessors = driver.integer("cuDeviceGetAttribute", multiprocessorCount, device);
  const release = () => driver.call("cuDevicePrimaryCtxRelease_v2", device);
  try {
    return new Cuda(name, stream, multiprocessors, release, await attention?.(stream));
  } catch (error) {
    stream.destroy();
    release();
    throw error;
  }
}
