// Ending things, finding actors, and asking the cluster what it has.

import { makeError } from '../errors/index.ts'
import { isBundleResource } from '../scheduling/bundle-names.ts'
import { fromUnits } from '../scheduling/resources.ts'
import type { Resources } from '../wire/messages.ts'
import { type ActorHandle, checkHandle, handleFromInfo, handleStateOf } from './actor.ts'
import { ObjectRefGenerator } from './generator.ts'
import { describe, idsOf, type ObjectRef } from './object-ref.ts'
import { parseOptions } from './options.ts'
import { requireRuntime } from './state.ts'

/**
 * Cancels a task. One that has not started never will; a running one has its signal fired
 * (`ray.getRuntimeContext().signal`), and is ended by force if it computes without looking. Reading it throws TaskCancelledError.
 * @param options.force end the worker at once. @param options.recursive cancel the tasks that it submitted too (default true).
 */
export function cancel(
  ref: ObjectRef | ObjectRefGenerator,
  options: { force?: boolean; recursive?: boolean } = {},
): void {
  const parsed = parseOptions<{ force?: boolean; recursive?: boolean }>('ray.cancel', options)
  const runtime = requireRuntime()
  const id = ref instanceof ObjectRefGenerator ? ref.id : (idsOf([ref], 'cancel', runtime)[0] as number)
  runtime.cancel(id, parsed.force ?? false, parsed.recursive ?? true)
}

/** Ends an actor's process at once. With `noRestart: false` it comes back if its maxRestarts allows. */
export function kill<T>(actor: ActorHandle<T>, options: { noRestart?: boolean } = {}): void {
  const state = handleStateOf(actor)
  if (!state) {
    throw makeError('INVALID_ARGUMENT', {
      message: 'ray.kill takes an actor handle',
      hint: 'To stop a task, use ray.cancel(ref).',
    })
  }
  checkHandle(state, requireRuntime())
  const { noRestart = true } = parseOptions<{ noRestart?: boolean }>('ray.kill', options)
  state.runtime.core.actors.suspend(state.actorId)
  state.runtime.link.send({ t: 'actor.kill', actorId: state.actorId, noRestart, detail: 'it was killed by ray.kill' })
}

/** A handle to a named actor that lives now. */
export async function getActor<T = Record<string, (...args: unknown[]) => unknown>>(
  name: string,
  options: { namespace?: string } = {},
): Promise<ActorHandle<T>> {
  const parsed = parseOptions<{ namespace?: string }>('ray.getActor', options)
  if (typeof name !== 'string' || name === '') {
    const message = `ray.getActor takes the name of an actor, but got ${describe(name)}`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: "Give the actor one: Class.options({ name: 'it' }).remote().",
    })
  }
  const runtime = requireRuntime()
  const namespace = parsed.namespace ?? runtime.identity.namespace
  const { info } = await runtime.link.request<'actor.found'>((requestId) => ({
    t: 'actor.find',
    requestId,
    name,
    namespace,
  }))
  if (!info) throw makeError('ACTOR_NOT_FOUND', { name, namespace })
  return handleFromInfo(info, runtime) as ActorHandle<T>
}

/** Names of living actors: of this namespace, or of all with their namespaces. */
export async function listNamedActors(allNamespaces: true): Promise<{ name: string; namespace: string }[]>
export async function listNamedActors(allNamespaces?: false): Promise<string[]>
export async function listNamedActors(
  allNamespaces = false,
): Promise<(string | { name: string; namespace: string })[]> {
  const runtime = requireRuntime()
  const { namespace } = runtime.identity
  const { actors } = await runtime.link.request<'actor.listed'>((requestId) => ({
    t: 'actor.list',
    requestId,
    allNamespaces,
    namespace,
  }))
  const named = actors.flatMap((info) =>
    info.name !== null && info.state !== 'DEAD' ? [{ name: info.name, namespace: info.namespace }] : [],
  )
  return allNamespaces ? named : named.map((info) => info.name)
}

/** Of `ray.clusterResources` and `ray.availableResources`. */
export interface ResourceListing {
  /** With those of placement groups' bundles, by Ray's names (`CPU_group_0_…`). Default false. */
  readonly raw?: boolean
}

/** All resources of the cluster by name. */
export async function clusterResources(options: ResourceListing = {}): Promise<Record<string, number>> {
  const { raw } = parseOptions<ResourceListing>('ray.clusterResources', options)
  const { total } = await requireRuntime().link.request<'cluster.resourcesAre'>((requestId) => ({
    t: 'cluster.resources',
    requestId,
  }))
  return listed(total, raw)
}

/** What is free now; a resource that is used up is absent. */
export async function availableResources(options: ResourceListing = {}): Promise<Record<string, number>> {
  const { raw } = parseOptions<ResourceListing>('ray.availableResources', options)
  const { available } = await requireRuntime().link.request<'cluster.resourcesAre'>((requestId) => ({
    t: 'cluster.resources',
    requestId,
  }))
  return listed(available, raw)
}

function listed(resources: Resources, raw = false): Record<string, number> {
  const all = Object.entries(fromUnits(resources))
  return Object.fromEntries(raw ? all : all.filter(([name]) => !isBundleResource(name)))
}

/** The nodes of the cluster, with Ray's keys. */
export async function nodes(): Promise<Record<string, unknown>[]> {
  const answer = await requireRuntime().link.request<'cluster.nodesAre'>((requestId) => ({
    t: 'cluster.nodes',
    requestId,
  }))
  return answer.nodes.map((node) => ({
    NodeID: node.nodeId,
    Alive: node.alive,
    alive: node.alive,
    Draining: node.isDraining,
    NodeManagerAddress: node.address,
    NodeManagerHostname: node.hostname,
    // A node of one machine listens on sockets of its folder only.
    NodeManagerPort: 0,
    ObjectManagerPort: 0,
    MetricsExportPort: 0,
    RuntimeEnvAgentPort: 0,
    ObjectStoreSocketName: '',
    RayletSocketName: `${node.sessionDir}/s/raylet`,
    NodeName: node.address,
    DeathReason: node.alive ? 0 : 1,
    DeathReasonMessage: node.deathReason ?? '',
    Resources: listed(node.total),
    Labels: node.labels,
  }))
}

/** Counts of workers, leases, queues, actors and stored bytes of this node. */
export async function nodeStats(): Promise<Record<string, number>> {
  const { stats } = await requireRuntime().link.request<'node.statsAre'>((requestId) => ({
    t: 'node.stats',
    requestId,
  }))
  return stats as Record<string, number>
}
