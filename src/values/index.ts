export type { ByteRange, SerializedValue, ValueHost } from './contract.ts'
export {
  type CustomSerializer,
  customSerializer,
  deregisterSerializer,
  deserializerNamed,
  registerSerializer,
} from './custom.ts'
export { decodeSmall, deserialize, encodeSmall, isSmall, serialize, serializeToBytes } from './serialize.ts'
export { UnserializableValueError } from './walk.ts'
