import path from 'node:path'
import { defineConfig } from 'vitest/config'

const dist = path.resolve('dist')

export default defineConfig({
  resolve: { alias: [
      { find: /^ray-ts$/, replacement: path.join(dist, 'index.js') },
      { find: /^ray-ts\/testing$/, replacement: path.join(dist, 'testing.js') },
    ] },
  server: { watch: null },
  test: {
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    globalSetup: 'test/global-setup.ts',
    setupFiles: 'test/setup.ts',
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    fileParallelism: false,
    server: { deps: { external: [/\/dist\//] } },
  },
})
