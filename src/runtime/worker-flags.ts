// Which of a program's Node flags its workers run with.
//
//   F1. Loaders and limits of the program (tsx, --conditions, heap sizes) go with its workers; debuggers, profilers, evaluated code,
//       watchers and test runners do not.
//   F2. A flag goes or stays together with its value, however it was written (`--flag=value`, `--flag value`).

const STAYS = /^(-e|-p|-pe|-i|-c|--eval|--print|--interactive|--check|--run)$/
const STAYS_BY_PREFIX = /^--(inspect|watch|test|input-type|cpu-prof|heap-prof|heapsnapshot|prof|trace-gc|report)/

/** `execArgv`: what stood between `node` and the script. */
export function workerFlags(execArgv: readonly string[]): string[] {
  const kept: string[] = []
  let isKept = true
  for (let i = 0; i < execArgv.length; i++) {
    const word = execArgv[i] as string
    const isValue = i > 0 && !word.startsWith('-')
    if (!isValue) isKept = !STAYS.test(word) && !STAYS_BY_PREFIX.test(word)
    if (isKept) kept.push(word)
    else if (/^(-e|-p|-pe|--eval|--print)$/.test(word)) i++ // Code may begin with a dash.
  }
  return [...kept, '--no-warnings=ExperimentalWarning']
}
