export { ERROR_TABLE, type ErrorCode, type ErrorEntry } from './codes.ts'
export * as exceptions from './errors.ts'
export { ERROR_CLASSES, errorFromWire, isErrorCode, makeError, makeTaskError, RayError, RayTaskError, type ErrorParams } from './errors.ts'
