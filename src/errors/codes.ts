// Every error that ray-ts raises, in one table: code, class (Ray's name), what happened, what to do next.
//
//   E1. The table, the classes of errors.ts and docs/errors.md agree; `npm run check` compares them.
//   E2. `{name}` in a text is filled from the error's `params`.

export interface ErrorEntry {
  readonly className: string
  readonly message: string
  readonly hint: string
}

const entry = (className: string, message: string, hint: string): ErrorEntry => ({ className, message, hint })

export const ERROR_TABLE = {
  INVALID_ARGUMENT: entry('InvalidArgumentError', '{message}', '{hint}'),
  UNKNOWN_OPTION: entry('InvalidArgumentError', "unknown option '{option}' for {target}", '{hint}'),
  NOT_REMOTE_CALL: entry(
    'InvalidArgumentError',
    'remote function {name} was called directly',
    'Call {name}.remote(…), and ray.get(…) its result.',
  ),
  NOT_A_REF: entry(
    'InvalidArgumentError',
    'ray.{verb} takes ObjectRefs, but got {got}',
    'Pass what .remote(…) or ray.put(…) returned. In a task, arguments that were references are values already.',
  ),
  FOREIGN_REF: entry(
    'InvalidArgumentError',
    'the ObjectRef {id} belongs to another ray session',
    'References live as long as the session that made them: get the value there, and put it here.',
  ),
  FOREIGN_HANDLE: entry(
    'InvalidArgumentError',
    'the handle of the actor {name} ({actorId}) belongs to another ray session',
    'Handles live as long as the session that made them: make the actor again, or find it with ray.getActor.',
  ),
  NOT_INITIALIZED: entry('NotInitializedError', 'ray is not initialized', 'Call await ray.init() first.'),
  ALREADY_INITIALIZED: entry(
    'InvalidArgumentError',
    'ray.init() was called twice in this process',
    'Call await ray.shutdown() first, or pass ignoreReinitError: true.',
  ),
  NO_CLUSTER: entry(
    'RayConnectionError',
    'no cluster to join: {detail}',
    'Pass what cluster.address says in the program that started it, or leave address out to start a node here.',
  ),
  NO_NODE_HERE: entry(
    'RayConnectionError',
    'no node of the cluster at {address} runs on this machine',
    "Start one first: ray start --address='{address}'. (Or run this program where one runs.)",
  ),
  NODE_START_FAILED: entry('RaySystemError', 'the node process did not start: {detail}', 'See its log: {log}'),
  PROTOCOL_MISMATCH: entry(
    'RaySystemError',
    'this process speaks protocol {own}, its node {theirs}',
    'Use the same version of ray-ts everywhere in a cluster.',
  ),
  AUTH_TOKEN_MISSING: entry(
    'AuthenticationError',
    "listening at '{host}', beyond this machine, needs a token that the whole cluster shares",
    'Set RAY_AUTH_TOKEN, or write the token to ~/.ray/auth_token, on every machine.',
  ),
  AUTH_TOKEN_WRONG: entry(
    'AuthenticationError',
    'the cluster refused the connection: the token is not its own',
    'Set RAY_AUTH_TOKEN (or ~/.ray/auth_token) to the token that the head of the cluster uses.',
  ),
  TLS_FILE: entry(
    'InvalidArgumentError',
    'RAY_USE_TLS is on, and {variable} is not right: {detail}',
    'RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT name PEM files: this machine’s certificate, its key, and the authority’s certificate.',
  ),
  TLS_REFUSED: entry(
    'AuthenticationError',
    'there is no secure connection: {detail}',
    'Everyone in a cluster needs RAY_USE_TLS=1 and a certificate of the same authority that names the addresses by which it is reached.',
  ),
  TASK_FAILED: entry(
    'RayTaskError',
    'ray::{name}() (pid={pid}): {message}',
    'The cause is the error that the task threw.',
  ),
  WORKER_CRASHED: entry(
    'WorkerCrashedError',
    'the worker (pid={pid}) that ran {name} died: {detail}',
    'Look at its last output. Set maxRetries to have the task run again.',
  ),
  WORKER_START_FAILED: entry(
    'RuntimeEnvSetupError',
    'no worker could be started for {name}: {detail}',
    'Check the runtimeEnv, and the worker logs in the session folder.',
  ),
  OUT_OF_MEMORY: entry(
    'OutOfMemoryError',
    'the worker (pid={pid}) that ran {name} was killed because memory ran out: {detail}',
    'Run fewer tasks at once (numCpus, memory), or give the node, or the task (memory, enforceMemory), more memory.',
  ),
  TASK_CANCELLED: entry('TaskCancelledError', 'the task {name} was cancelled', 'Nothing: ray.cancel asked for it.'),
  INFEASIBLE: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: it asks for {asked}, but the largest node has {largest}',
    "Ask for less, start ray with more, or pass onInfeasible: 'wait' if such a node will join.",
  ),
  NODE_NOT_FOUND: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: it asks for the node {nodeId}, which is not in the cluster',
    'See ray.nodes(), or pass soft: true to let it run elsewhere.',
  ),
  NODE_DRAINING: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: it asks for the node {nodeId}, which is being drained and takes nothing new',
    'Choose another of ray.nodes(), or pass soft: true to let it run elsewhere.',
  ),
  NODE_TOO_SMALL: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: it asks for {asked} on the node {nodeId}, which has {has}',
    'Ask for less, choose another node, or pass soft: true to let it run elsewhere.',
  ),
  NODE_BUSY: entry(
    'TaskUnschedulableError',
    '{name} was not scheduled: it asks for {asked} on the node {nodeId}, which has {has} left, and it was not to wait',
    'Try again later, or leave failOnUnavailable out to wait.',
  ),
  NO_SUCH_LABELS: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: no node has the labels it asks for ({labels})',
    "See Labels in ray.nodes(); add a fallbackStrategy, or pass onInfeasible: 'wait' if such a node will join.",
  ),
  BUNDLE_TOO_SMALL: entry(
    'TaskUnschedulableError',
    '{name} can never be scheduled: it asks for {asked}, but the largest bundle it may use has {largest}',
    'Ask for less, or make the placement group with larger bundles.',
  ),
  PLACEMENT_GROUP_REMOVED: entry(
    'TaskPlacementGroupRemoved',
    'the placement group {groupId} is gone: {reason}',
    "Make it again; lifetime: 'detached' lets a group outlive the program that made it.",
  ),
  PLACEMENT_GROUP_NAME_TAKEN: entry(
    'InvalidArgumentError',
    "the placement group name '{name}' is taken in namespace '{namespace}'",
    'Choose another name, or remove the other group first.',
  ),
  PLACEMENT_GROUP_NOT_FOUND: entry(
    'InvalidArgumentError',
    "no placement group is named '{name}' in namespace '{namespace}'",
    'It was never made, or it was removed: see ray.util.placementGroupTable().',
  ),
  TASK_PLACEMENT_GROUP_REMOVED: entry(
    'TaskPlacementGroupRemoved',
    '{name} failed: {reason}',
    'Make the placement group again, and submit the task there.',
  ),
  ACTOR_PLACEMENT_GROUP_REMOVED: entry(
    'ActorPlacementGroupRemoved',
    'the actor {name} is dead: {reason}',
    'Make the placement group again, and the actor in it.',
  ),
  ACTOR_INFEASIBLE: entry(
    'ActorUnschedulableError',
    'the actor {name} can never be scheduled: {detail}',
    'Ask for less, or start ray with more.',
  ),
  ACTOR_DIED: entry(
    'ActorDiedError',
    'the actor {name} ({actorId}) is dead: {reason}',
    'Make a new one; maxRestarts lets an actor come back after a crash.',
  ),
  ACTOR_OUT_OF_MEMORY: entry(
    'OutOfMemoryError',
    'the process of actor {name} ({actorId}) was killed because memory ran out: {reason}',
    'Give the node more memory, or keep less in the actor; maxRestarts lets it come back.',
  ),
  ACTOR_THREAD_DIED: entry(
    'WorkerCrashedError',
    'the thread of actor {name} that ran {method} ended: {detail}',
    'The actor goes on with a fresh thread; what the old one kept in its own instance is lost.',
  ),
  ACTOR_THREAD_OUT_OF_MEMORY: entry(
    'OutOfMemoryError',
    'the thread of actor {name} that ran {method} ended because its heap was full: {detail}',
    'Keep less in each call, or start workers with a larger heap (NODE_OPTIONS=--max-old-space-size=… in runtimeEnv).',
  ),
  ACTOR_UNAVAILABLE: entry(
    'ActorUnavailableError',
    'the actor {name} ({actorId}) died while it ran this call and is being restarted: {reason}',
    'Call again, or set maxTaskRetries if repeating the call is harmless.',
  ),
  ACTOR_STATE_FULL: entry(
    'InvalidArgumentError',
    "with '{key}' the actor's state would have {total} bytes, and it may have {limit}",
    'Keep less, delete other keys, or keep what is large in a file or a detached actor.',
  ),
  ACTOR_NAME_TAKEN: entry(
    'ActorAlreadyExistsError',
    "the actor name '{name}' is taken in namespace '{namespace}'",
    'Choose another name, kill the other actor, or pass getIfExists: true.',
  ),
  ACTOR_NOT_FOUND: entry(
    'ActorHandleNotFoundError',
    "no actor is named '{name}' in namespace '{namespace}'",
    'It was never made, it is dead, or it lives in another namespace: see ray.util.listNamedActors(true).',
  ),
  ACTOR_METHOD_MISSING: entry(
    'InvalidArgumentError',
    "the actor class {className} has no method '{method}'",
    'Its methods are: {methods}.',
  ),
  PENDING_CALLS_LIMIT: entry(
    'PendingCallsLimitExceeded',
    'the actor {name} has {pending} calls waiting, and maxPendingCalls is {limit}',
    'Await some results first, or raise maxPendingCalls.',
  ),
  GET_TIMEOUT: entry(
    'GetTimeoutError',
    '{missing} of {total} objects were not ready within {timeoutS} s',
    'Wait longer (timeoutS), or use ray.wait to take what is ready.',
  ),
  OBJECT_LOST: entry(
    'ObjectLostError',
    'the value of object {id} is lost: {detail}',
    'It cannot be rebuilt; make it again.',
  ),
  OBJECT_FREED: entry(
    'ObjectFreedError',
    'the object {id} was freed by free()',
    'Free only what nobody reads any more.',
  ),
  OWNER_DIED: entry(
    'OwnerDiedError',
    'the process that owned object {id} is gone, and the value with it',
    'Keep the owner (the maker of the reference) alive while others use its references.',
  ),
  OBJECT_STORE_FULL: entry(
    'ObjectStoreFullError',
    'no room for an object of {size} bytes: {detail}',
    'Free references, or start ray with a larger objectStoreMemory or more spill directories.',
  ),
  OUT_OF_DISK: entry(
    'OutOfDiskError',
    'the spill directories are full: {detail}',
    'Free disk space, or add a directory.',
  ),
  QUEUE_EMPTY: entry('QueueEmpty', 'the queue is empty{detail}', 'Wait longer, or look with empty() first.'),
  QUEUE_FULL: entry(
    'QueueFull',
    'the queue is full{detail}',
    'Wait longer, take items out, or give it a larger maxsize.',
  ),
  POOL_CLOSED: entry('InvalidArgumentError', 'the {what} is closed', 'Make a new one.'),
  UNSERIALIZABLE: entry('UnserializableException', '{message}', '{hint}'),
  NODE_DIED: entry(
    'LocalRayletDiedError',
    'the node process is gone: {detail}',
    'Start again with ray.init(); see its log.',
  ),
  GCS_STORAGE_FAILED: entry(
    'RaySystemError',
    'the state of the cluster cannot be kept in {place}: {detail}',
    'Make room or bring it back, and start the head again: it goes on from what was stored.',
  ),
  GCS_STORAGE_DAMAGED: entry(
    'RaySystemError',
    'the state of the cluster in {place} is damaged: {detail}',
    'Put a copy of the folder back, or move it away to start without the old actors, groups and keys.',
  ),
  GCS_STORAGE_IN_USE: entry(
    'RaySystemError',
    'the state of the cluster in {place} belongs to another GCS: {detail}',
    'End that one first, or give this cluster another --temp-dir (with Redis: RAY_external_storage_namespace).',
  ),
  SYSTEM: entry('RaySystemError', '{message}', 'This is a defect of ray-ts: please report it.'),
} as const satisfies Readonly<Record<string, ErrorEntry>>

/** A code of docs/errors.md. */
export type ErrorCode = keyof typeof ERROR_TABLE
