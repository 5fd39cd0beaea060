// Guide 3.1, fourth sample (dependencies between tasks). Passing references makes the graph: a task starts when what it needs is
// there, and the program waits once, at the end. The sample's Parquet files are made up here.

import * as ray from 'ray-ts'

type Rows = { x: number; y: number }[]
interface Model {
  readonly slope: number
  readonly intercept: number
}

await using _cluster = await ray.init()

const loadData = ray.remote((path: string): (Rows[number] | null)[] => {
  const offset = path.includes('test') ? 100 : 0
  return Array.from({ length: 50 }, (_, i) => (i % 10 === 0 ? null : { x: i + offset, y: 3 * (i + offset) + 1 }))
})

const preprocess = ray.remote((data: (Rows[number] | null)[]): Rows => data.filter((row) => row !== null))

const trainModel = ray.remote((rows: Rows, config: { intercept: boolean }): Model => {
  const mean = (of: (row: Rows[number]) => number): number => rows.reduce((sum, row) => sum + of(row), 0) / rows.length
  const [mx, my] = config.intercept ? [mean(({ x }) => x), mean(({ y }) => y)] : [0, 0]
  const slope = mean(({ x, y }) => (x - mx) * (y - my)) / mean(({ x }) => (x - mx) ** 2)
  return { slope, intercept: my - slope * mx }
})

const evaluate = ray.remote((model: Model, rows: Rows) => {
  const errors = rows.map(({ x, y }) => Math.abs(model.slope * x + model.intercept - y))
  return { rows: rows.length, worst: Math.max(...errors) }
})

const rawData = loadData.remote('/data/train.parquet')
const cleanData = preprocess.remote(rawData) // waits for rawData by itself
const model = trainModel.remote(cleanData, { intercept: true }) // waits for cleanData
const testData = preprocess.remote(loadData.remote('/data/test.parquet')) // runs beside them
const metrics = evaluate.remote(model, testData) // waits for both

const { rows, worst } = await ray.get(metrics)
console.log(`${rows} rows, worst error ${worst.toFixed(6)}`)
//> 45 rows, worst error 0.000000
