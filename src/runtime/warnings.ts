// Advice to the user, as warnings of the process: silent from the level that `loggingLevel` sets.

const QUIET_LEVELS = new Set(['error', 'critical'])
let isQuiet = false

export function setWarningLevel(level: string): void {
  isQuiet = QUIET_LEVELS.has(level)
}

export function warn(text: string): void {
  if (!isQuiet) process.emitWarning(text, 'RayWarning')
}
