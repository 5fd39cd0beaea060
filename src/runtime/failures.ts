// Turns the machine's reasons for a failure into errors of the table.

import type { Failure } from '../core-worker/effects.ts'
import { errorFromWire, makeError, type RayError } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'

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
      const code = exit?.reason === 'outOfMemory' ? 'OUT_OF_MEMORY' : 'WORKER_CRASHED'
      return makeError(code, { name, pid: exit?.pid ?? 0, detail: exit?.detail ?? 'its connection broke' })
    }
    case 'actorDied':
    case 'actorUnavailable': {
      const refusal = refused.get(failure.actorId)
      if (refusal) return refusal
      const { info } = failure
      if (info?.death?.isInfeasible)
        return makeError('ACTOR_INFEASIBLE', { name: info.className, detail: info.death.reason })
      const code = failure.kind === 'actorDied' ? 'ACTOR_DIED' : 'ACTOR_UNAVAILABLE'
      const reason = `${info?.death?.reason ?? 'unknown'}${info?.death?.exit ? ` (pid=${info.death.exit.pid})` : ''}`
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
