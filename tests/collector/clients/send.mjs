// Sends one event of each type, then ends. Arguments: address of the collector, write key, how many more events.
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, more] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, maxEventsInBatch: 15, flushInterval: 200, maxRetries: 20 })
let failed = 0
analytics.on('error', () => (failed += 1))
analytics.identify({ userId: 'n1', anonymousId: 'a1', traits: { email: 'n1@example.com', name: 'Zoë' } })
analytics.track({ userId: 'n1', event: 'Product Viewed', properties: { price: 1.5 } })
analytics.page({ userId: 'n1', name: 'Home' })
analytics.screen({ userId: 'n1', name: 'Start' })
analytics.group({ userId: 'n1', groupId: 'g1', traits: { plan: 'pro' } })
analytics.alias({ userId: 'n1', previousId: 'a1' })
for (let n = 0; n < Number(more ?? 0); n++) analytics.track({ userId: 'n1', event: 'Counted', properties: { n } })
await analytics.closeAndFlush({ timeout: 30000 })
process.exit(failed ? 1 : 0)
