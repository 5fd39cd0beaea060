// The one shape that every stateful part of the core has.
//
// A machine owns state and nothing else. Time comes in as `now`; everything that happens in the world comes in as an
// `Input`; everything that the machine wants done leaves as an `Effect`, plain data, performed by the caller afterwards.
//
// Invariants:
//   K1. `step` is synchronous and runs to the end: no input is handled while another is.
//   K2. Effects are plain data, performed by the caller after `step` has returned, in order.
//   K3. Same state and same inputs give the same effects: no clock, timer, randomness, I/O or `await` inside.

/** Milliseconds on the clock of whoever drives the machine. Only differences mean anything. */
export type Ms = number

/** A peer of a machine. Core workers are known by their worker tag; `0` is the node (GCS and raylet). */
export type Address = number

export type Input<Message, Local> =
  | { readonly kind: 'start' }
  | { readonly kind: 'message'; readonly from: Address; readonly message: Message }
  | { readonly kind: 'timer'; readonly key: string }
  | { readonly kind: 'local'; readonly event: Local }

export type Effect<Message, Local> =
  | { readonly kind: 'send'; readonly to: Address; readonly message: Message }
  /** Replaces a pending timer of the same key. */
  | { readonly kind: 'timer'; readonly key: string; readonly at: Ms }
  | { readonly kind: 'cancelTimer'; readonly key: string }
  | { readonly kind: 'local'; readonly event: Local }

export interface Machine<MessageIn, LocalIn, MessageOut, LocalOut> {
  step(now: Ms, input: Input<MessageIn, LocalIn>): Effect<MessageOut, LocalOut>[]
  /** Throws `InvariantError` when the state contradicts itself. Run after every step in tests and simulation. */
  check(): void
}
