// A node's connections with other nodes: listens for them, and begins each with a hello.

import type { NodeId } from '../ids/ids.ts'
import type { NodeAddress, RayletToRaylet } from '../wire/cluster.ts'
import type { NodeWork, WorkQuestion } from '../wire/work.ts'
import type { ClusterConfig } from './node-config.ts'
import { PeerLinks } from './peer-link.ts'
import { type OnGreeted, TcpListener, tell } from './tcp.ts'

export interface PeersEvents {
  /** The first message of the link with that node. */
  hello(peer: NodeId): RayletToRaylet
  onMessage(peer: NodeId, message: RayletToRaylet): void
  /** The link has ended, and not by `end`: what was on its way is lost. */
  onLost(peer: NodeId, detail: string): void
  /** A node that wants to pull chunks. */
  readonly onBulk: OnGreeted
  /** For people who ask. */
  work(question: WorkQuestion): Promise<NodeWork>
}

export class Peers {
  readonly address: NodeAddress
  readonly #links: PeerLinks<RayletToRaylet>
  readonly #listener: TcpListener

  private constructor(address: NodeAddress, links: PeerLinks<RayletToRaylet>, listener: TcpListener) {
    this.address = address
    this.#links = links
    this.#listener = listener
  }

  static async listen(nodeId: NodeId, cluster: ClusterConfig, events: PeersEvents): Promise<Peers> {
    const { host, port, token } = cluster
    let links: PeerLinks<RayletToRaylet> | null = null
    const listener = await TcpListener.listen({
      host,
      port,
      token,
      purposes: {
        peer: (socket, greeting) => links?.accept(socket, greeting),
        bulk: events.onBulk,
        work: (socket, { detail }) => void events.work(detail as WorkQuestion).then((work) => tell(socket, work)),
      },
    })
    const address = { host, port: listener.port }
    links = new PeerLinks<RayletToRaylet>(
      { nodeId, address, token },
      {
        onBegin: (peer) => links?.send(peer, events.hello(peer)),
        onMessage: (peer, message) => events.onMessage(peer, message),
        onEnded: (peer, end) => {
          console.error(`the link to node ${peer} has ended: ${end.detail}`)
          events.onLost(peer, end.detail)
        },
      },
    )
    return new Peers(address, links, listener)
  }

  send(to: NodeId, message: RayletToRaylet, address: NodeAddress | null): void {
    this.#links.send(to, message, address)
  }

  /** Begins a link, if there is none. */
  meet(nodeId: NodeId, address: NodeAddress | null): void {
    this.#links.begin(nodeId, address)
  }

  learnAddress(nodeId: NodeId, address: NodeAddress): void {
    this.#links.learnAddress(nodeId, address)
  }

  keptBytes(nodeId: NodeId): number {
    return this.#links.keptBytes(nodeId)
  }

  /** It was declared dead. */
  end(nodeId: NodeId): void {
    this.#links.end(nodeId, 'the node was declared dead')
  }

  close(): void {
    this.#links.close()
    this.#listener.close()
  }
}
