package postgres

// replicated says whether all that was committed before is on a replica: some synchronous standby has written the log to
// its disk as far as this server has, and commits of this session wait for it. To be asked while the numberings are held
// that it is asked for: whoever held them before has committed then. That a standby streams is not enough, and that a
// commit returned neither: it may have been told, or have had enough of waiting, to do without.
// The columns can be seen by members of pg_read_all_stats only.
const replicated = `
SELECT current_setting('synchronous_commit') IN ('on', 'remote_apply')
   AND current_setting('synchronous_standby_names') <> ''
   AND EXISTS (SELECT FROM pg_stat_replication
               WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum') AND flush_lsn >= pg_current_wal_flush_lsn())`
