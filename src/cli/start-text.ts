// What `ray start` says when it has succeeded: Ray's lines, which tools look for.

const STARTED = 'Ray runtime started.'
const BANNER = `${'-'.repeat(STARTED.length)}\n${STARTED}\n${'-'.repeat(STARTED.length)}\n`

export function headText({ address, newToken }: { address: string; newToken: string | null }): string {
  const token = newToken
    ? `  This cluster is reached from other machines, and whoever knows its token can run code here. On each of them, run
    export RAY_AUTH_TOKEN='${newToken}'
  
`
    : ''
  return `${BANNER}
Next steps
${token}  To add another node to this Ray cluster, run
    ray start --address='${address}'
  
  To connect to this Ray cluster:
    import * as ray from 'ray-ts'
    await ray.init()
  
  To terminate the Ray runtime, run
    ray stop
  
  To view the status of the cluster, use
    ray status`
}

export function nodeText(): string {
  return `${BANNER}
To terminate the Ray runtime, run
  ray stop`
}
