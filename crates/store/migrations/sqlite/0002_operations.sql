-- Operations are listed by organization, and those that have not ended are looked for all the time.

DROP INDEX long_operation_list;
CREATE INDEX long_operation_list ON long_operation(org, create_time, operation_id);
CREATE INDEX long_operation_live ON long_operation(create_time, operation_id) WHERE state IN ('running', 'paused');
