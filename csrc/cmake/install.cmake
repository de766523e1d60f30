# Header, library and package configuration, so that find_package(gaq_engine) gives the target gaq::engine. In a wheel all of
# it lies within the package: `python -c "import gaq; print(gaq.__path__[-1])"` prints the prefix.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
if(SKBUILD)
  set(PREFIX gaq/)
  set(LIBRARIES ${PREFIX}lib)
else()
  set(LIBRARIES ${CMAKE_INSTALL_LIBDIR})
endif()
set(CONFIGURATION ${LIBRARIES}/cmake/gaq_engine)

target_include_directories(gaq_engine INTERFACE $<INSTALL_INTERFACE:${PREFIX}include>)
set_target_properties(gaq_engine PROPERTIES EXPORT_NAME engine)
install(TARGETS gaq_engine EXPORT gaq_engine LIBRARY DESTINATION ${LIBRARIES} RUNTIME DESTINATION ${LIBRARIES}
        ARCHIVE DESTINATION ${LIBRARIES})
install(FILES include/gaq_engine.h DESTINATION ${PREFIX}include)
install(EXPORT gaq_engine NAMESPACE gaq:: DESTINATION ${CONFIGURATION} FILE gaq_engine-config.cmake)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/gaq_engine-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gaq_engine-config-version.cmake DESTINATION ${CONFIGURATION})
