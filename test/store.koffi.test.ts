import { storeCases } from './store-cases.ts'

storeCases('koffi')
