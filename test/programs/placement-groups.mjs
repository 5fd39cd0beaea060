// A driver that joins a node, makes a detached and an ordinary placement group, says so, and ends.
import * as ray from 'ray-ts'

const [address] = process.argv.slice(2)
await ray.init({ address, namespace: 'groups' })
const kept = ray.util.placementGroup([{ CPU: 1 }], { name: 'kept', lifetime: 'detached' })
const gone = ray.util.placementGroup([{ CPU: 1 }], { name: 'gone' })
await Promise.all([kept.wait(), gone.wait()])
console.log('made')
