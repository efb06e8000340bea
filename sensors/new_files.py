import dagster as dg
@dg.sensor(job_name="refresh", default_status=dg.DefaultSensorStatus.RUNNING)
def new_files(context: dg.SensorEvaluationContext):
    return dg.SkipReason("stub")
