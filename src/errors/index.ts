export { ERROR_TABLE, type ErrorCode, type ErrorEntry } from './codes.ts'
export {
  ERROR_CLASSES,
  type ErrorParams,
  errorFromWire,
  isErrorCode,
  makeError,
  makeTaskError,
  RayError,
  RayTaskError,
} from './errors.ts'
export { withCallSite } from './stacks.ts'
