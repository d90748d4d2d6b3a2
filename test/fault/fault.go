// Package fault breaks a running Allim on purpose and looks whether it kept what it promises: processes as in production, real Redis servers with
// proxies in front of them, callers that repeat with the same id until they have an answer, readers that speak frames. Everything that was asked,
// answered and delivered goes into a log, and rules that are pure functions of the log judge it at the end.
//
// The rules and their own test run with the ordinary tests. The scenarios take minutes and measure time, so they stand behind the build tag `fault`:
// `make fault` runs all of them, `make fault-short` a selection.
package fault
