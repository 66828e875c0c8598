resource "google_monitoring_notification_channel" "email" {
  for_each     = toset(var.alert_emails)
  display_name = each.value
  type         = "email"
  labels       = { email_address = each.value }
}

locals {
  alerts = {
    lag = {
      title  = "rows are behind"
      filter = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${var.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      above  = var.lag_seconds
      align  = "ALIGN_MAX"
      fix    = "docs/dataflow.md, Symptoms: the backlog grows"
    }
    watermark = {
      title  = "the watermark stands still"
      filter = "resource.type = \"dataflow_job\" AND resource.labels.job_name = \"${var.name}\" AND metric.type = \"dataflow.googleapis.com/job/data_watermark_age\""
      above  = var.lag_seconds
      align  = "ALIGN_MAX"
      fix    = "docs/dataflow.md, Symptoms: the watermark stands still"
    }
    dead_letters = {
      title  = "dead letters"
      filter = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${var.name}-dead-letters\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      above  = 0
      align  = "ALIGN_MAX"
      fix    = "docs/dataflow.md, Symptoms: dead letters"
    }
    drift = {
      title  = "a backfill found rows that differ again"
      filter = "resource.type = \"dataflow_job\" AND resource.labels.job_name = \"${var.name}-backfill\" AND metric.type = \"dataflow.googleapis.com/job/user_counter\" AND metric.labels.metric_name = \"drift\""
      above  = 0
      align  = "ALIGN_MAX"
      fix    = "docs/dataflow.md, Symptoms: drift"
    }
    failed = {
      title  = "a job failed"
      filter = "resource.type = \"dataflow_job\" AND metric.type = \"dataflow.googleapis.com/job/is_failed\""
      above  = 0
      align  = "ALIGN_MAX"
      fix    = "docs/dataflow.md, Symptoms: a job failed"
    }
  }
}

resource "google_monitoring_alert_policy" "alert" {
  for_each     = local.alerts
  display_name = "${var.name}: ${each.value.title}"
  combiner     = "OR"
  conditions {
    display_name = each.value.title
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = "300s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = each.value.align
      }
    }
  }
  documentation {
    content = each.value.fix
  }
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
}

resource "google_monitoring_dashboard" "views" {
  dashboard_json = jsonencode({
    displayName = "Views: ${var.name}"
    gridLayout = {
      columns = 2
      widgets = [
        for key, one in local.alerts : {
          title = one.title
          xyChart = {
            dataSets = [{
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter      = one.filter
                  aggregation = { alignmentPeriod = "60s", perSeriesAligner = one.align }
                }
              }
            }]
          }
        }
      ]
    }
  })
}
