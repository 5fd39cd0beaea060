// What goes wrong in a worker outside of any call: exceptions in timers and callbacks that a task left behind, rejections that
// nobody handles, a closed standard output.
//
//   U1. An exception that nobody caught ends the worker, as it ends any Node program: its state is unknown, and a call that waits
//       for the callback that threw would wait for ever. The exception is printed, and is named in the error of what ran then.
//   U2. Who listens for `uncaughtException` or `unhandledRejection` has taken charge, and the worker goes on.
//   U3. A standard output that user code closed is no failure: what is printed afterwards is lost (speaker.ts opens the streams).

import type { NodeLink } from './node-link.ts'

export function watchWorkerFaults(link: NodeLink): void {
  process.on('uncaughtException', (error: unknown, origin) => {
    if (process.listenerCount('uncaughtException') > 1) return // U2
    const what = origin === 'unhandledRejection' ? 'a rejection that nobody handled' : 'an exception that nobody caught'
    const where = 'in a timer, callback or promise of the code that it ran'
    console.error(`ray: ${what}, ${where}, ends this worker:`, error)
    link.send({ t: 'worker.exiting', detail: `${what} (${where}): ${summary(error)}`, isFailure: true })
    process.exit(1)
  })
}

/** The message and the first line of the stack that is not Node's. */
function summary(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const line = error.stack?.split('\n').find((one) => /^\s+at /.test(one) && !one.includes('(node:'))
  return `${error.name}: ${error.message}${line ? ` ${line.trim()}` : ''}`
}
