// Failure here looks like a node that claims the machine's CPUs inside a container, or GPUs that nobody may use.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { detectCpus, detectGpus, detectMemory } from './detect.ts'

function machine(files: Readonly<Record<string, string>>): string {
  const root = fs.mkdtempSync(path.join(process.env.RAY_TMPDIR ?? os.tmpdir(), 'machine-'))
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    fs.writeFileSync(path.join(root, name), text)
  }
  return root
}

const cpus = (files: Readonly<Record<string, string>>, own = 16): number =>
  detectCpus({ root: machine(files), cpus: own })

test('[ARCH-13] CPUs are those of the container: cgroup v2 and v1, fractions cut off, never none', () => {
  expect(cpus({})).toBe(16)
  expect(cpus({ 'sys/fs/cgroup/cpu.max': 'max 100000\n' })).toBe(16)
  expect(cpus({ 'sys/fs/cgroup/cpu.max': '250000 100000\n' })).toBe(2)
  expect(cpus({ 'sys/fs/cgroup/cpu.max': '50000 100000\n' })).toBe(1)
  expect(cpus({ 'sys/fs/cgroup/cpu.max': '800000 100000\n' }, 4)).toBe(4)
  const v1 = { 'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '300000\n', 'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' }
  expect(cpus(v1)).toBe(3)
  expect(cpus({ ...v1, 'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n' })).toBe(16)
})

test('[ARCH-13] limits of the groups above our own count too', () => {
  const nested = {
    'proc/self/cgroup': '0::/pods/ours\n',
    'sys/fs/cgroup/pods/cpu.max': '400000 100000\n',
    'sys/fs/cgroup/pods/ours/cpu.max': 'max 100000\n',
    'sys/fs/cgroup/pods/ours/memory.max': '1000000\n',
  }
  expect(cpus(nested)).toBe(4)
  expect(detectMemory({ root: machine(nested), memoryBytes: 5_000_000 })).toBe(1_000_000)
  expect(detectMemory({ root: machine({ 'sys/fs/cgroup/memory.max': 'max\n' }), memoryBytes: 5_000_000 })).toBe(
    5_000_000,
  )
})

test('[TASK-06] GPUs: CUDA_VISIBLE_DEVICES decides, then what the driver shows', () => {
  const two = machine({
    'proc/driver/nvidia/gpus/0000:01:00.0/information': '',
    'proc/driver/nvidia/gpus/0000:02:00.0/x': '',
  })
  expect(detectGpus({ root: two, env: {} })).toEqual(['0', '1'])
  expect(detectGpus({ root: two, env: { CUDA_VISIBLE_DEVICES: '3,5,GPU-8a' } })).toEqual(['3', '5', 'GPU-8a'])
  expect(detectGpus({ root: two, env: { CUDA_VISIBLE_DEVICES: '' } })).toEqual([])
  expect(detectGpus({ root: two, env: { CUDA_VISIBLE_DEVICES: '-1' } })).toEqual([])
  expect(detectGpus({ root: machine({}), env: {} })).toEqual([])
})
