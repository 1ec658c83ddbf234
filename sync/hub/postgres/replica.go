package postgres

// replicated says whether a commit waits until a replica has it: some standby is synchronous now, and this session has
// not been told to do without. Everything committed before is on that standby too, because it gets the log in order.
// The column can be seen by members of pg_read_all_stats only.
const replicated = `
SELECT current_setting('synchronous_commit') IN ('on', 'remote_apply')
   AND current_setting('synchronous_standby_names') <> ''
   AND EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))`
