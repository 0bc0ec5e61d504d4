include $(sort $(wildcard $(BR2_EXTERNAL_MODEST_PATH)/package/*/*.mk))
