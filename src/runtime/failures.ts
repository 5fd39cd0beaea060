// Turns the machine's reasons for a failure into errors of the table.

import type { Failure } from '../core-worker/effects.ts'
import { errorFromWire, makeError, type RayError } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'
import type { ActorInfo, ExitInfo } from '../wire/messages.ts'

const LINE_CHARACTERS_MAX = 400

export function errorFor(
  failure: Exclude<Failure, { kind: 'dependency' }>,
  refused: ReadonlyMap<string, RayError>,
  formatId: (id: ObjectId) => string,
): RayError {
  switch (failure.kind) {
    case 'cancelled':
      return makeError('TASK_CANCELLED', { name: failure.name })
    case 'refused':
      return errorFromWire({ ...failure.error, params: { ...failure.error.params, name: failure.name } })
    case 'workerCrashed': {
      const { exit, name } = failure
      if (exit?.reason === 'groupRemoved')
        return makeError('TASK_PLACEMENT_GROUP_REMOVED', { name, reason: exit.detail })
      const code = exit?.reason === 'outOfMemory' ? 'OUT_OF_MEMORY' : 'WORKER_CRASHED'
      const detail = exit ? `${exit.detail}${lastLines(exit)}` : 'its connection broke'
      return makeError(code, { name, pid: exit?.pid ?? 0, detail })
    }
    case 'actorDied':
    case 'actorUnavailable': {
      const refusal = refused.get(failure.actorId)
      if (refusal) return refusal
      const { info } = failure
      if (info?.death?.isInfeasible)
        return makeError('ACTOR_INFEASIBLE', { name: info.className, detail: info.death.reason })
      if (info?.death?.isGroupRemoved)
        return makeError('ACTOR_PLACEMENT_GROUP_REMOVED', { name: info.className, reason: info.death.reason })
      const isDead = failure.kind === 'actorDied'
      const isMemory = info?.death?.exit?.reason === 'outOfMemory'
      const code = isMemory ? 'ACTOR_OUT_OF_MEMORY' : isDead ? 'ACTOR_DIED' : 'ACTOR_UNAVAILABLE'
      const reason = info ? describeDeath(info) : 'unknown'
      return makeError(code, { name: info?.className ?? failure.name, actorId: failure.actorId, reason })
    }
    case 'ownerDied':
      return errorFromWire(failure.error)
    case 'lost':
      return makeError('OBJECT_LOST', { id: formatId(failure.id), detail: 'its stored copy is gone' })
    case 'freed':
      return makeError('OBJECT_FREED', { id: formatId(failure.id) })
    case 'nodeDied':
      return makeError('NODE_DIED', { detail: failure.detail })
  }
}

/** Why, and below it what is known of the process that died. */
function describeDeath(info: ActorInfo): string {
  const { death, name, namespace, numRestarts } = info
  if (!death) return 'unknown'
  const { exit, pid = exit?.pid } = death
  const facts = [`name: ${name === null ? 'none' : `'${name}'`}`, `namespace: '${namespace}'`]
  if (pid !== undefined) facts.unshift(`pid: ${pid}`)
  if (exit)
    facts.push(`end: ${exit.signal ? `signal ${exit.signal}` : `exit code ${exit.code ?? 'unknown'}`} (${exit.reason})`)
  if (numRestarts > 0) facts.push(`restarts: ${numRestarts}`)
  return `${death.reason}\n  ${facts.join(', ')}${exit ? lastLines(exit) : ''}`
}

function lastLines(exit: ExitInfo): string {
  if (exit.lastLines.length === 0) return ''
  return `\n  the end of its error output:\n${exit.lastLines.map((line) => `    ${line.slice(0, LINE_CHARACTERS_MAX)}`).join('\n')}`
}
