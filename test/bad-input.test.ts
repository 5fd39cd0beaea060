// Failure here looks like a wrong value that is taken, an error that comes late, or one that does not say what to do.
import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const { InvalidArgumentError } = ray.exceptions
const identity = ray.remote((x: unknown) => x)
class Counter {
  count(): number {
    return 1
  }
}
type Options = Record<string, unknown>

const resources = {
  numCpus: [-1, '2', Number.NaN, Number.POSITIVE_INFINITY, null],
  numGpus: [-1, 1.5, '1', {}],
  memory: [-1, '1GB', []],
  enforceMemory: ['yes', 1],
  resources: [
    5,
    null,
    [],
    { a: -1 },
    { a: 'x' },
    { CPU: 1 },
    { GPU: 1 },
    { memory: 1 },
    { object_store_memory: 1 },
    { '': 1 },
  ],
  schedulingStrategy: ['SPREADED', 5, {}, null],
  labelSelector: ['eu', 5, [], null, { region: 5 }, { region: 'us*' }, { 'a b': 'x' }, { region: 'in()' }],
  fallbackStrategy: ['eu', {}, null, [5], [{}], [{ region: 'eu' }], [{ labelSelector: { region: '!' } }]],
  runtimeEnv: [5, [], { pip: ['numpy'] }, { envVars: 5 }, { envVars: { A: 1 } }, { workingDir: 5 }],
  priority: ['high', Number.NaN],
  onInfeasible: ['never', true],
}
const WRONG: Readonly<Record<string, Readonly<Record<string, readonly unknown[]>>>> = {
  'a task': {
    ...resources,
    name: ['', 5, null],
    numReturns: [-1, 1.5, 'dynamic', null],
    maxRetries: [-2, 0.5, '3', true],
    retryExceptions: ['all', 1, ['TypeError'], [new Error('x')]],
    maxCalls: [-1, 0.5, '1'],
    generatorBackpressureNumObjects: [-1, 0.5],
    enableTaskEvents: ['yes', 1],
  },
  'an actor': {
    ...resources,
    name: ['', 5],
    namespace: ['', 5],
    lifetime: ['forever', true],
    getIfExists: ['yes', 1],
    maxRestarts: [-2, 0.5, '1'],
    maxTaskRetries: [-2, 0.5],
    maxConcurrency: [0, -1, 1.5, '2'],
    maxPendingCalls: [-2, 0.5],
    threaded: ['yes', 1],
    concurrencyGroups: [5, { io: 0 }, { io: 'x' }, []],
    allowOutOfOrderExecution: ['yes'],
    enableTaskEvents: ['yes'],
  },
  'an actor method': {
    name: ['', 5],
    numReturns: [-1, 'dynamic'],
    concurrencyGroup: ['', 5],
    maxTaskRetries: [-2],
    retryExceptions: ['all', ['x']],
    generatorBackpressureNumObjects: [-1],
    enableTaskEvents: [0],
  },
  'ray.init': {
    address: ['', 5],
    numCpus: [-1, '2'],
    numGpus: [-1, 0.5, 1.5],
    memory: [-1, '1GB'],
    objectStoreMemory: [-1, 1000, '2GB'],
    resources: [{ CPU: 4 }, { a: -1 }, 5],
    labels: [5, { region: 5 }, { region: 'a b' }, { 'ray.io/node-id': 'x' }, { 'a b': 'x' }],
    namespace: ['', 5],
    logToDriver: ['no', 0],
    loggingLevel: ['loud', 20],
    loggingConfig: ['JSON', { encoding: 'XML' }, { level: 'info' }],
    ignoreReinitError: [1],
    objectSpilling: [
      5,
      { directoryPath: 5 },
      { directoryPath: [] },
      { type: 'smart_open' },
      { path: '/tmp' },
      { bufferSize: 0 },
    ],
    includeDashboard: ['no'],
    dashboardHost: [''],
    dashboardPort: [-1, 70_000, '8265'],
    systemConfig: [5, [], { nonsense: 1 }, { numWorkersSoftLimit: -2 }, { killIdleWorkersIntervalMs: 'x' }],
  },
  'ray.get': { timeoutS: [-1, '1', Number.NaN, null] },
  'ray.wait': { numReturns: [0, -1, 1.5, '1'], timeoutS: [-1, '1'], fetchLocal: ['yes'] },
  'ray.cancel': { force: ['yes'], recursive: [1] },
  'ray.kill': { noRestart: [0] },
  'ray.getActor': { namespace: ['', 5] },
}

/** What takes the options of each target. */
const USES: Readonly<Record<string, readonly ((options: Options) => unknown)[]>> = {
  'a task': [(options) => ray.remote(() => 1, options), (options) => identity.options(options)],
  'an actor': [(options) => ray.remote(Counter, options), (options) => ray.remote(Counter).options(options)],
  'an actor method': [(options) => ray.method(options as never), (options) => counter.count.options(options as never)],
  'ray.init': [(options) => ray.init(options)],
  'ray.get': [(options) => ray.get(ray.put(1), options), (options) => ray.put(1).get(options as never)],
  'ray.wait': [(options) => ray.wait([ray.put(1)], options)],
  'ray.cancel': [(options) => ray.cancel(ray.put(1), options)],
  'ray.kill': [(options) => ray.kill(counter, options)],
  'ray.getActor': [(options) => ray.getActor('any', options)],
}

let counter: ray.ActorHandle<Counter>
beforeAll(async () => {
  await ray.init({ numCpus: 2 })
  counter = ray.remote(Counter).remote()
  await ray.get(counter.count.remote())
})
afterAll(() => ray.shutdown())

/** The error of a call that throws or rejects. */
async function errorOf(call: () => unknown): Promise<Error & { hint?: string; code?: string }> {
  try {
    await call()
  } catch (error) {
    return error as Error
  }
  throw new Error('it was accepted')
}

describe('options', () => {
  for (const [target, options] of Object.entries(WRONG)) {
    test(`[TASK-05] wrong values of ${target} are typed errors that name the option, what is right, and an example`, async () => {
      for (const [option, values] of Object.entries(options)) {
        for (const value of values) {
          for (const use of USES[target] ?? []) {
            const error = await errorOf(() => use({ [option]: value }))
            const what = `${target} ${option} ${JSON.stringify(value)}: ${error.message}`
            // A second init is refused as well, but not before its options were looked at.
            expect(error, what).toBeInstanceOf(InvalidArgumentError)
            expect(error.code, what).toMatch(/^(INVALID_ARGUMENT|UNKNOWN_OPTION)$/)
            expect(error.message, what).toMatch(/ must be | takes |unknown option/)
            expect(error.hint?.length, what).toBeGreaterThan(5)
            expect(error.message, what).toContain(error.hint)
          }
        }
      }
    })

    test(`[TASK-05] every option of ${target} has its row above, and unknown ones name the nearest`, async () => {
      const use = USES[target]?.[0] as (options: Options) => unknown
      const { hint } = await errorOf(() => use({ zzzzzzzzzzzzzzzzzzzz: 1 }))
      expect(/Known options: (.+)\./.exec(hint ?? '')?.[1]?.split(', ')).toEqual(
        expect.arrayContaining(Object.keys(options)),
      )
      expect(hint?.split(', ').length).toBe(Object.keys(options).length)
      const [first] = Object.keys(options) as [string]
      expect((await errorOf(() => use({ [`${first}e`]: 1 }))).hint).toBe(`Did you mean ${first}?`)
      const snake = first.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      if (snake !== first) expect((await errorOf(() => use({ [snake]: 1 }))).hint).toBe(`Write ${first}.`)
      for (const notAnObject of [5, 'x', null, []]) {
        const error = await errorOf(() => use(notAnObject as never))
        expect(error.message).toMatch(/must be an object/)
      }
    })
  }

  test('[ARCH-14][ARCH-15] the guide’s outdated spellings of ray.init get an answer', async () => {
    const answers: [Options, RegExp][] = [
      [{ _memory: 8 * 1024 ** 3 }, /Write memory\./],
      [{ _workerMaximumStartupConcurrency: 10 }, /systemConfig: \{ workerMaximumStartupConcurrency \}/],
      [{ _worker_maximum_startup_concurrency: 10 }, /systemConfig: \{ workerMaximumStartupConcurrency \}/],
      [{ _system_config: {} }, /Write systemConfig\./],
      [{ num_cpus: 1 }, /Write numCpus\./],
      [{ object_store_memory: 1 }, /Write objectStoreMemory\./],
      [{ _temp_dir: '/x' }, /RAY_TMPDIR/],
      [{ objectSpillingConfig: {} }, /Write objectSpilling\./],
    ]
    for (const [options, hint] of answers) expect((await errorOf(() => ray.init(options))).hint).toMatch(hint)
    expect((await errorOf(() => ray.remote(() => 1, { maxTaskRetries: 1 } as never))).hint).toBe('Write maxRetries.')
    expect((await errorOf(() => ray.remote(Counter, { maxRetries: 1 } as never))).hint).toBe('Write maxTaskRetries.')
    expect((await errorOf(() => ray.get(ray.put(1), { timeout: 1 } as never))).hint).toBe('Write timeoutS.')
  })
})

describe('calls', () => {
  const cases: [string, () => unknown, RegExp][] = [
    ['remote of no function', () => ray.remote(5 as never), /takes a function or a class, but got number/],
    [
      'a remote function called directly',
      () => (identity as unknown as () => void)(),
      /called directly[\s\S]*\.remote\(/,
    ],
    ['an actor class called directly', () => (ray.remote(Counter) as unknown as () => void)(), /called directly/],
    ['an actor method called directly', () => (counter.count as unknown as () => void)(), /called directly/],
    [
      'a method that is not there',
      () => (counter as unknown as { cuont: object }).cuont,
      /no method 'cuont'[\s\S]*count/,
    ],
    ['a field set through the handle', () => Object.assign(counter, { n: 1 }), /cannot be set through its handle/],
    ['get of a value', () => ray.get(5 as never), /ray\.get takes ObjectRefs, but got number 5/],
    ['get of nothing', () => ray.get(undefined as never), /takes ObjectRefs, but got undefined/],
    ['get of a list with a value', () => ray.get([ray.put(1), 'x'] as never), /but got string x/],
    ['get of a promise', () => ray.get(Promise.resolve(1) as never), /but got a Promise/],
    ['get of an actor handle', () => ray.get(counter as never), /takes ObjectRefs/],
    ['wait of one reference', () => ray.wait(ray.put(1) as never), /takes a list/],
    ['wait of values', () => ray.wait([1] as never), /takes ObjectRefs, but got number 1/],
    ['wait beyond its length', () => ray.wait([ray.put(1)], { numReturns: 2 }), /numReturns: 2, but only 1/],
    ['wait for the same twice', () => ((ref) => ray.wait([ref, ref]))(ray.put(1)), /same ObjectRef twice/],
    ['put of a reference', () => ray.put(ray.put(1)), /put of an ObjectRef is not allowed/],
    ['cancel of a value', () => ray.cancel('task' as never), /ray\.cancel takes ObjectRefs/],
    ['kill of a reference', () => ray.kill(ray.put(1) as never), /takes an actor handle[\s\S]*ray\.cancel/],
    ['an actor of an unknown name', () => ray.getActor('nobody'), /no actor is named 'nobody'[\s\S]*listNamedActors/],
    ['an actor of no name', () => ray.getActor('' as never), /takes the name of an actor/],
    [
      'getIfExists without a name',
      () => ray.remote(Counter, { getIfExists: true }).remote(),
      /getIfExists needs a name/,
    ],
    ['maxCalls in options', () => identity.options({ maxCalls: 1 } as never), /maxCalls cannot be set in \.options/],
    ['JSON of a reference', () => JSON.stringify(ray.put(1)), /cannot be written as JSON/],
    ['a strategy for no node', () => new ray.NodeAffinitySchedulingStrategy({ nodeId: 'x' }), /ray\.nodes\(\)/],
    ['a label strategy of nothing', () => new ray.NodeLabelSchedulingStrategy({}), /neither hard nor soft/],
    ['a label strategy of texts', () => new ray.NodeLabelSchedulingStrategy({ hard: { a: 'b' } as never }), /In\(…\)/],
    ['In of nothing', () => ray.In(), /In takes one or more strings, but got none/],
    ['NotIn of a number', () => ray.NotIn(5 as never), /NotIn takes one or more strings, but got \[5\]/],
    [
      'a label selector that is none',
      () => identity.options({ labelSelector: { region: 'us*' } }),
      /must be a label selector \('us\*' for label 'region' is none of/,
    ],
    [
      'a label selector of a number',
      () => identity.options({ labelSelector: { region: 5 } as never }),
      /must be an object of strings by label/,
    ],
    [
      'a fallback without labelSelector',
      () => ray.remote(Counter).options({ fallbackStrategy: [{ region: 'eu' }] as never }),
      /must be a list, each an object of labelSelector only/,
    ],
    [
      'a fallback that is no selector',
      () => identity.options({ fallbackStrategy: [{ labelSelector: { 'a b': 'x' } }] }),
      /a list, each a label selector \('a b' is no label/,
    ],
    ['exitActor outside actors', () => ray.exitActor(), /outside an actor/],
  ]
  for (const [what, call, message] of cases) {
    test(`[EXTRA-09] ${what}`, async () => {
      const error = await errorOf(call)
      expect(error).toBeInstanceOf(ray.RayError)
      expect(error.message).toMatch(message)
      expect(error.hint?.length).toBeGreaterThan(5)
    })
  }

  test('[RES-06] what can never be scheduled fails at once, and says what the node has', async () => {
    const { TaskUnschedulableError, ActorUnschedulableError } = ray.exceptions
    const error = await errorOf(() => ray.get(identity.options({ numCpus: 64 }).remote(1)))
    expect(error).toBeInstanceOf(TaskUnschedulableError)
    expect(error.message).toMatch(/asks for \{CPU: 64\}, but the largest node has \{.*CPU: 2/)
    const huge = ray.remote(Counter, { resources: { unicorn: 1 } }).remote()
    await expect(ray.get(huge.count.remote())).rejects.toThrow(ActorUnschedulableError)
    const schedulingStrategy = new ray.NodeAffinitySchedulingStrategy({ nodeId: 'f'.repeat(56) })
    const elsewhere = identity.options({ schedulingStrategy }).remote(1)
    await expect(ray.get(elsewhere)).rejects.toThrow(/asks for the node f{56}, which is not in the cluster/)
    const soft = new ray.NodeAffinitySchedulingStrategy({ nodeId: 'f'.repeat(56), soft: true })
    expect(await ray.get(identity.options({ schedulingStrategy: soft }).remote(1))).toBe(1)
  })
})
