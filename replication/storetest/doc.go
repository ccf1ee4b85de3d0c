// Package storetest holds what every [replication.Store] must do, as tests, and a small Store
// in memory for the tests of others.
//
// A package with a Store runs the suite in one of its own tests:
//
//	func TestStoreConforms(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) replication.Store { return openSomehow(t) })
//	}
//
// [Suite] has more hooks: a durable store shows that everything survives being closed and
// opened again, and a store whose data can be damaged shows how it deals with that.
//
// [Memory] obeys the same rules, so it stands in for a disk. It can be told to fail writes, to
// hold a key for damaged, to lose a record or bring back an older one, and to wait before it
// applies; what it cannot show is durability.
package storetest
