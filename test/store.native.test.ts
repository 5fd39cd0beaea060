import { storeCases } from './store-cases.ts'

storeCases('native')
