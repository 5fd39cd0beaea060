// Stack traces as users want to read them: their own frames, in the worker and at the call, without ours.
//
//   S1. What is left out are frames of this package and of Node itself. A stack of only such frames stays whole.

/** The folder of this package, with a slash: frames of its src/ and dist/ are ours. */
const ROOT = import.meta.url.replace(/^file:\/\//, '').replace(/(dist\/[^/]+|src\/errors\/[^/]+)$/, '')
const CALLED_FROM = '\n  called from:\n'

/** The stack of an error that a task threw: where in the worker; where it was asked for is added by `withCallSite`. */
export function taskStack(head: string, cause: Error): string {
  return `${head}\n  in the worker:\n${indent(ownFrames(cause.stack ?? cause.message))}`
}

/**
 * Gives an error that arrived from elsewhere the place that waited for it. To be called in an async function after its `await`:
 * only there does the engine know who awaits it.
 */
export function withCallSite(error: Error): void {
  const place = ownFrames(new Error('here').stack ?? '')
    .split('\n')
    .slice(1)
    .join('\n')
  if (place === '') return
  const stack = error.stack ?? ''
  const isFromTask = stack.includes('\n  in the worker:\n')
  const head = isFromTask ? stack.split(CALLED_FROM)[0] : `${error.name}: ${error.message}`
  const value = isFromTask ? `${head}${CALLED_FROM}${place}` : `${head}\n${place}`
  Object.defineProperty(error, 'stack', { value, configurable: true, writable: true })
}

function ownFrames(stack: string): string {
  const lines = stack.split('\n')
  const kept = lines.filter((line) => !isFrame(line) || !isOurs(line))
  return kept.some(isFrame) || lines.length === kept.length ? kept.join('\n') : stack
}

function isFrame(line: string): boolean {
  return /^\s+at /.test(line)
}

function isOurs(line: string): boolean {
  return line.includes(`${ROOT}dist/`) || line.includes(`${ROOT}src/`) || line.includes('node:internal/')
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ')
}
