// Package natsbench measures the box's queue and its way to the hub against NATS JetStream, the usual choice for the
// same work, made as durable as ours: every acknowledged message is on the disk (sync=always).
//
// It is a module of its own, so that neither box nor hub depends on NATS.
package natsbench
