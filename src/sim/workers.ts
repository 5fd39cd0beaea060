// How the processes of a node start and register: drivers and workers.

import type { Ms } from '../kernel/machine.ts'
import type { FromNode } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import { CoreShell } from './core-shell.ts'
import { SimExecutor } from './executor.ts'
import { ControlLink } from './link.ts'
import type { Socket } from './network.ts'
import type { SimNode } from './node.ts'
import type { SimProcess } from './processes.ts'

const USUAL_START_MS: Ms = 10

interface Booting {
  readonly os: SimProcess
  readonly startupToken: string
  readonly kind: 'driver' | 'worker'
  readonly socketPath: string
  readonly onReady: (shell: CoreShell) => void
  /** True: it was dealt with. */
  readonly onMessage?: (message: FromNode, shell: CoreShell) => boolean
}

/** Connects to the node and registers; `onReady` when the node has answered. */
export function boot(cluster: Cluster, node: SimNode, how: Booting): void {
  const { os, startupToken, kind, socketPath: socket, onReady, onMessage } = how
  let shell: CoreShell | null = null
  const link: ControlLink = new ControlLink(
    cluster,
    node,
    os,
    (message) => {
      if (message.t === 'registered') {
        shell = new CoreShell(cluster, node, os, message, link)
        cluster.shells.set(message.tag, shell)
        onReady(shell)
        return
      }
      if (shell && !onMessage?.(message, shell)) shell.onMessage(message)
    },
    () => {
      // What a driver does without its node is its own affair; here it ends.
      if (kind === 'worker' || !cluster.isAlone) os.die({ code: 0, signal: null }, false)
      else shell?.onNodeGone()
    },
  )
  const identity = { workerId: '00'.repeat(28), pid: os.pid, socket, namespace: 'sim', jobName: '', protocol: 1 }
  link.send({ t: 'register', kind, startupToken, ...identity })
  os.onTurnEnd = () => {
    if (shell) shell.turnEnd()
    else link.flush()
  }
}

export class WorkerProcess {
  readonly node: SimNode
  readonly os: SimProcess
  readonly token: string
  shell: CoreShell | null = null
  executor: SimExecutor | null = null
  readonly #cluster: Cluster
  /** Connections of owners that came before it was ready. */
  readonly #early: Socket[] = []

  constructor(cluster: Cluster, node: SimNode, os: SimProcess, token: string) {
    this.#cluster = cluster
    this.node = node
    this.os = os
    this.token = token
  }

  start(): void {
    const { world, faults } = this.#cluster
    const { random } = world
    const delay = 1 + random.next() * (random.chance(0.2) ? faults.startMaxMs : USUAL_START_MS)
    world.after(delay, () => {
      if (random.chance(this.#cluster.faults.startFailureChance)) this.os.die({ code: 1, signal: null }, false)
      else this.os.enter(() => this.#boot())
    })
  }

  accept(socket: Socket): void {
    if (this.executor) this.executor.accept(socket)
    else this.#early.push(socket)
  }

  #boot(): void {
    const { os, token } = this
    const onReady = (shell: CoreShell): void => {
      const executor = new SimExecutor(shell)
      this.shell = shell
      this.executor = executor
      const turnEnd = os.onTurnEnd
      os.onTurnEnd = () => {
        shell.settle()
        executor.turnEnd()
        turnEnd?.()
      }
      for (const socket of this.#early) executor.accept(socket)
    }
    const onMessage = (message: FromNode): boolean => this.#onMessage(message)
    boot(this.#cluster, this.node, { os, startupToken: token, kind: 'worker', socketPath: os.name, onReady, onMessage })
  }

  #onMessage(message: FromNode): boolean {
    const { executor, shell } = this
    if (message.t === 'worker.exit') {
      if (shell?.core.isNeeded) shell.link.send({ t: 'worker.stays' })
      else executor?.exit(message.detail)
    } else if (message.t === 'actor.start') executor?.become(message.spec, message.incarnation)
    else if (message.t === 'actor.finish') executor?.finish()
    else return false
    return true
  }
}
