// Package load drives servers with HTTP requests for keys and measures how fast and how well they answer.
//
// It leaves to others: what runs on the servers' machines (their CPU, memory and disks), how often and how long to
// measure, and what to make of the figures. It knows no API but by the Format that it is given, so that one engine
// drives snakes and whatever it is compared with.
//
// Terms: a load is a number of connections, each of which sends the next request when it has the answer to the one
// before (a closed loop); a window is what was answered between two calls of Cut; a failure is an answer with a status
// other than 2xx, or none in time. Latencies are of the requests that succeeded; failures are counted by their reasons.
//
// # What a closed loop hides
//
// While a server stalls, a closed loop sends it nothing, so that a stall of one second is one slow request for each
// connection, where clients that come at their own times would have met it thousands of times: high percentiles look
// better than such clients see them ("coordinated omission"). With Config.Rate requests are due at fixed times, whether
// the servers keep up or not, and the latency of one that had to wait for its connection counts from when it was due.
//
// # Cost
//
// The load often shares its machine with the servers, and net/http's client costs more than the server does. So
// requests are HTTP/1.1, built once for each connection and patched with the next key, and of the answers only what is
// needed to find their ends is read. Bodies are discarded unread. There is a goroutine for each connection.
//
// # When servers misbehave
//
// A connection that fails, or gives no answer within Config.Timeout, counts as one failure, is closed and opened anew
// to the next server. After a failure a connection pauses for 10 ms, so that servers that refuse at once are not
// stormed. Requests under way when the load is stopped count for nothing.
//
//	l, err := load.Start(ctx, load.Config{
//		Servers: []string{"http://127.0.0.1:9000"}, Format: load.Snakes("quorum", "quorum"),
//		Op: load.Put, Prefix: "bench", Keys: load.Uniform(10000), Value: load.Value(256), Connections: 64,
//	})
//	...
//	time.Sleep(time.Second) // warm up
//	l.Cut()
//	time.Sleep(10 * time.Second)
//	result := l.Stop()
//	fmt.Println(result.Throughput(), result.Quantile(0.99), result.Failed)
package load
